-- Rooms.

local function room_row(id)
  local found = call('HMGET', P .. 'room:' .. id, 'name', 'description', 'kind', 'ephemeral',
    'creator', 'created', 'first', 'second', 'messages', 'changes')
  if not found[1] then
    return false
  end
  return {id, unpack(found)}
end

local function add_room(name, description, kind, ephemeral, creator, created, password, pair)
  local id = next_id('room')
  call('HSET', P .. 'room:' .. id, 'name', name, 'description', description, 'kind', kind,
    'ephemeral', ephemeral, 'creator', creator, 'created', created, 'password', password,
    'first', pair and pair[1] or '', 'second', pair and pair[2] or '',
    'messages', '0', 'changes', '0')
  call('HSET', P .. 'roomnames', name, id)
  call('ZADD', P .. 'rooms:' .. kind, id, id)
  if pair then
    call('HSET', P .. 'pairs', pair[1] .. ':' .. pair[2], id)
  end
  return id
end

function commands.add_room(name, description, kind, ephemeral, creator, created, password)
  if call('HEXISTS', P .. 'roomnames', name) == 1 then
    return TAKEN
  end
  return room_row(add_room(name, description, kind, ephemeral, creator, created, password))
end

-- first is the lesser id.
function commands.private_room(first, second, creator, name, created)
  local id = call('HGET', P .. 'pairs', first .. ':' .. second)
  if id then
    return {room_row(id), 0}
  end
  if not exists('user:' .. first) or not exists('user:' .. second) then
    return ABSENT
  end
  id = add_room(name, '', 'private', '0', creator, created, '', {first, second})
  return {room_row(id), 1}
end

function commands.room_by_id(id)
  return room_row(id)
end

function commands.room_by_name(name)
  local id = call('HGET', P .. 'roomnames', name)
  return id and room_row(id)
end

function commands.room_password(id)
  return call('HGET', P .. 'room:' .. id, 'password')
end

-- of_user is '' for everybody; the kinds follow.
function commands.rooms(offset, limit, of_user, ...)
  local ids, total = {}, 0
  if of_user == '' then
    for _, kind in ipairs({...}) do
      -- The page has none that is further back in the list of its own kind.
      append(ids, page('rooms:' .. kind, 0, offset + limit))
      total = total + call('ZCARD', P .. 'rooms:' .. kind)
    end
  else
    local wanted, seen = {}, {}
    for _, kind in ipairs({...}) do
      wanted[kind] = true
    end
    for _, holder in ipairs(call('SMEMBERS', P .. 'user:' .. of_user .. ':sessions')) do
      for _, id in ipairs(call('SMEMBERS', P .. 'places:' .. holder)) do
        if not seen[id] and wanted[call('HGET', P .. 'room:' .. id, 'kind')] then
          seen[id] = true
          ids[#ids + 1] = id
        end
      end
    end
    total = #ids
  end
  sorted(ids)
  local rows = {}
  for place = offset + 1, math.min(offset + limit, #ids) do
    rows[#rows + 1] = room_row(ids[place])
  end
  return {rows, total}
end

-- '1' before a value says that it is to be changed.
function commands.update_room(id, with_name, name, with_description, description)
  local former = call('HGET', P .. 'room:' .. id, 'name')
  if not former then
    return ABSENT
  end
  if with_name == '1' and name ~= former then
    if call('HEXISTS', P .. 'roomnames', name) == 1 then
      return TAKEN
    end
    call('HDEL', P .. 'roomnames', former)
    call('HSET', P .. 'roomnames', name, id)
    call('HSET', P .. 'room:' .. id, 'name', name)
  end
  if with_description == '1' then
    call('HSET', P .. 'room:' .. id, 'description', description)
  end
  return room_row(id)
end

local function remove_messages(id, kind)
  for _, message in ipairs(call('ZRANGE', P .. 'room:' .. id .. ':messages', 0, -1)) do
    local found = call('HMGET', P .. 'message:' .. message, 'user', 'key')
    call('DEL', P .. 'message:' .. message, P .. 'room:' .. id .. ':by:' .. found[1])
    call('HDEL', P .. 'keys', found[2])
    if kind == 'public' then
      call('ZREM', P .. 'public', message)
      call('ZREM', P .. 'public:by:' .. found[1], message)
    end
  end
  call('DEL', P .. 'room:' .. id .. ':messages')
end

-- Nobody is in the room any more.
local function remove_room(id)
  local found = call('HMGET', P .. 'room:' .. id, 'name', 'kind', 'first', 'second')
  remove_messages(id, found[2])
  call('HDEL', P .. 'roomnames', found[1])
  call('ZREM', P .. 'rooms:' .. found[2], id)
  if found[3] ~= '' then
    call('HDEL', P .. 'pairs', found[3] .. ':' .. found[4])
  end
  call('DEL', P .. 'room:' .. id, P .. 'room:' .. id .. ':there')
end

function commands.remove_room(id)
  local row = room_row(id)
  if row then
    for _, user in ipairs(call('HKEYS', P .. 'room:' .. id .. ':there')) do
      for _, holder in ipairs(call('SMEMBERS', P .. 'user:' .. user .. ':sessions')) do
        call('SREM', P .. 'places:' .. holder, id)
      end
    end
    remove_room(id)
  end
  return row
end
