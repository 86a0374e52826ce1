-- Messages, what is counted, and the beginning of it all.

local function message_row(id)
  local found = call('HMGET', P .. 'message:' .. id, 'room', 'number', 'user', 'username', 'text',
    'time')
  if not found[1] then
    return false
  end
  return {id, unpack(found)}
end

function commands.add_message(room, user, text, key, now)
  local found = call('HMGET', P .. 'room:' .. room, 'messages', 'kind')
  local username = call('HGET', P .. 'user:' .. user, 'username')
  if not found[1] or not username then
    return ABSENT
  end
  local id = call('HGET', P .. 'keys', key)
  if id then
    local row = message_row(id)
    if row[2] ~= room or row[4] ~= user then
      return TAKEN
    end
    return {row, 0}
  end
  local number = found[1]
  id = next_id('message')
  call('HSET', P .. 'message:' .. id, 'room', room, 'number', number, 'user', user,
    'username', username, 'text', text, 'time', now, 'key', key)
  call('HSET', P .. 'keys', key, id)
  call('ZADD', P .. 'room:' .. room .. ':messages', number, id)
  call('ZADD', P .. 'room:' .. room .. ':by:' .. user, number, id)
  if found[2] == 'public' then
    call('ZADD', P .. 'public', id, id)
    call('ZADD', P .. 'public:by:' .. user, id, id)
  end
  call('HINCRBY', P .. 'room:' .. room, 'messages', 1)
  return {message_row(id), 1}
end

function commands.message(id)
  return message_row(id)
end

-- room, user and after are '' where they do not matter.
function commands.messages(room, user, after, offset, limit, newest_first, max_bytes)
  local key = P .. (room == '' and 'public' or 'room:' .. room)
  if user ~= '' then
    key = key .. ':by:' .. user
  elseif room ~= '' then
    key = key .. ':messages'
  end
  local least = after == '' and '-inf' or '(' .. after
  local ids
  if newest_first == '1' then
    ids = call('ZREVRANGEBYSCORE', key, '+inf', least, 'LIMIT', offset, limit)
  else
    ids = call('ZRANGEBYSCORE', key, least, '+inf', 'LIMIT', offset, limit)
  end
  local rows, size = {}, 0
  for place, id in ipairs(ids) do
    local row = message_row(id)
    size = size + #row[6]
    if place > 1 and size > tonumber(max_bytes) then
      break
    end
    rows[place] = row
  end
  return {rows, call('ZCOUNT', key, least, '+inf')}
end

local function visits(day)
  return {call('HGET', P .. 'visits', day) or '0', call('HGET', P .. 'visits', 'total') or '0'}
end

function commands.add_visit(day)
  call('HINCRBY', P .. 'visits', day, 1)
  call('HINCRBY', P .. 'visits', 'total', 1)
  return visits(day)
end

function commands.counts(day)
  local counted = visits(day)
  return {call('ZCARD', P .. 'users'), call('ZCARD', P .. 'accounts'), call('SCARD', P .. 'online'),
    call('HLEN', P .. 'roomnames'), call('HLEN', P .. 'keys'), counted[1], counted[2]}
end

-- Return the version that was found, after making what is always there where nothing was.
function commands.prepare(version, now, anonymous, key, uuid, public)
  local found = call('GET', P .. 'schema')
  if found then
    return found
  end
  call('SET', P .. 'schema', version)
  add_user('anonymous', anonymous, key, uuid, now, '')
  add_room(public, '', 'public', '0', '', now, '')
  return version
end
