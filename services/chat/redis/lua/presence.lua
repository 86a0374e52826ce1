-- Sessions, and the rooms that they are in.

local function holder_of(gateway, session)
  return cjson.encode({gateway, session})
end

local function user_of(gateway, session)
  return call('HGET', P .. 'gateway:' .. gateway, session)
end

local function rooms_of(gateway, session)
  return sorted(call('SMEMBERS', P .. 'places:' .. holder_of(gateway, session)))
end

local function is_present(room, user)
  return call('HEXISTS', P .. 'room:' .. room .. ':there', user) == 1
end

local function count_change(room)
  call('HINCRBY', P .. 'room:' .. room, 'changes', 1)
end

-- Count one session of a user in or out of a room; return whether that makes the difference.
local function step(room, user, difference)
  local there = P .. 'room:' .. room .. ':there'
  local count = call('HINCRBY', there, user, difference)
  if count == 0 then
    call('HDEL', there, user)
  end
  return (difference > 0 and count == 1) or count == 0
end

-- Take a session away from its user, if it has one.
local function unset_user(gateway, session)
  local user = user_of(gateway, session)
  if user then
    local holder = holder_of(gateway, session)
    call('SREM', P .. 'user:' .. user .. ':exclusive', holder)
    call('SREM', P .. 'user:' .. user .. ':sessions', holder)
    if not exists('user:' .. user .. ':sessions') then
      call('SREM', P .. 'online', user)
    end
  end
end

local function set_user(gateway, session, user, exclusive)
  unset_user(gateway, session)
  local holder = holder_of(gateway, session)
  call('SADD', P .. 'gateways', gateway)
  call('HSET', P .. 'gateway:' .. gateway, session, user)
  call('SADD', P .. 'user:' .. user .. ':sessions', holder)
  call('SADD', P .. 'online', user)
  if exclusive == '1' then
    call('SADD', P .. 'user:' .. user .. ':exclusive', holder)
  end
end

-- How entries and departures are told. Lists: a room's row, the user, then two truths.
local function entry(room, user, created, arrived)
  return {room, user, created and 1 or 0, arrived and 1 or 0}
end

local function departure(room, user, gone, removed)
  return {room, user, gone and 1 or 0, removed and 1 or 0}
end

-- Give a session a user; its rooms stay.
local function claim(gateway, session, user, created, exclusive)
  local former = user_of(gateway, session)
  local departures, entries = {}, {}
  if former and former ~= user then
    for _, room in ipairs(rooms_of(gateway, session)) do
      count_change(room)
      local row = room_row(room)
      if step(room, user, 1) then
        entries[#entries + 1] = entry(row, user, false, true)
      end
      if step(room, former, -1) then
        departures[#departures + 1] = departure(row, former, true, false)
      end
    end
  end
  set_user(gateway, session, user, exclusive)
  return {user_row(user), created, departures, entries}
end

function commands.claim_guest(gateway, session, username, key, uuid, now, exclusive)
  if named('account', key) then
    return TAKEN
  end
  local user = named('guest', key)
  if user then
    local holder = holder_of(gateway, session)
    local others = P .. 'user:' .. user .. (exclusive == '1' and ':sessions' or ':exclusive')
    if call('SCARD', others) > call('SISMEMBER', others, holder) then
      return TAKEN
    end
    return claim(gateway, session, user, 0, exclusive)
  end
  return claim(gateway, session, add_user('guest', username, key, uuid, now, ''), 1, exclusive)
end

function commands.claim_anonymous(gateway, session, key)
  return claim(gateway, session, named('anonymous', key), 0, '0')
end

local function leave(gateway, session, room)
  local user = user_of(gateway, session)
  local row = room_row(room)
  if not user or not row then
    return false
  end
  if call('SREM', P .. 'places:' .. holder_of(gateway, session), room) == 0 then
    return false
  end
  local gone = step(room, user, -1)
  if gone then
    count_change(room)
  end
  -- row[5] is `ephemeral`.
  local removed = row[5] == '1' and not exists('room:' .. room .. ':there')
  if removed then
    remove_room(room)
  end
  return departure(row, user, gone, removed)
end

local function close_session(gateway, session)
  local departures = {}
  for _, room in ipairs(rooms_of(gateway, session)) do
    departures[#departures + 1] = leave(gateway, session, room) or nil
  end
  unset_user(gateway, session)
  call('HDEL', P .. 'gateway:' .. gateway, session)
  if not exists('gateway:' .. gateway) then
    call('SREM', P .. 'gateways', gateway)
  end
  return departures
end

local function close_gateway(gateway)
  local departures = {}
  for _, session in ipairs(call('HKEYS', P .. 'gateway:' .. gateway)) do
    append(departures, close_session(gateway, session))
  end
  return departures
end

function commands.open_session(gateway, session, user)
  if not exists('user:' .. user) then
    return ABSENT
  end
  local former = user_of(gateway, session)
  if former == user then
    return {}
  end
  local departures = former and close_session(gateway, session) or {}
  set_user(gateway, session, user, '0')
  return departures
end

local function enter(gateway, session, user, room, created)
  if not user_of(gateway, session) then
    set_user(gateway, session, user, '0')
  end
  local arrived = false
  if call('SADD', P .. 'places:' .. holder_of(gateway, session), room) == 1 then
    arrived = step(room, user, 1)
  end
  if arrived then
    count_change(room)
  end
  return entry(room_row(room), user, created, arrived)
end

-- The room, or '' and what a new one of that name would be: '' too where there is to be none.
function commands.enter(gateway, session, user, room, name, ...)
  if not exists('user:' .. user) then
    return ABSENT
  end
  local former = user_of(gateway, session)
  if former and former ~= user then
    return TAKEN
  end
  if room == '' and name ~= '' then
    local id = call('HGET', P .. 'roomnames', name)
    if id then
      return enter(gateway, session, user, id, false)
    end
    return enter(gateway, session, user, add_room(name, ...), true)
  end
  if not exists('room:' .. room) then
    return ABSENT
  end
  return enter(gateway, session, user, room, false)
end

function commands.leave(gateway, session, room)
  return leave(gateway, session, room)
end

commands.close_session = close_session
commands.close_gateway = close_gateway

-- sessions: JSON, a list of [session, user, exclusive, [room, ...]], all of them strings; others: of
-- the names of sessions that earlier parts have told.
function commands.sync_gateway(gateway, previous, sessions, others, more)
  local entries, departures, gone, kept = {}, {}, {}, {}
  local moved_from = previous ~= '' and previous ~= gateway and previous or nil
  -- First in, then out: so nobody leaves a room for a moment, and no ephemeral room goes away.
  for _, said in ipairs(cjson.decode(sessions)) do
    local session, user, exclusive, rooms = said[1], said[2], said[3], said[4]
    kept[session] = {}
    for _, room in ipairs(rooms) do
      kept[session][room] = true
      if not exists('room:' .. room) then
        gone[#gone + 1] = room
      end
    end
    if exists('user:' .. user) then
      local moved = claim(gateway, session, user, 0, exclusive)
      append(departures, moved[3])
      append(entries, moved[4])
      for _, room in ipairs(rooms) do
        if exists('room:' .. room) then
          entries[#entries + 1] = enter(gateway, session, user, room, false)
        end
      end
    end
    for _, room in ipairs(rooms_of(gateway, session)) do
      if not kept[session][room] then
        departures[#departures + 1] = leave(gateway, session, room) or nil
      end
    end
    if moved_from then
      append(departures, close_session(moved_from, session))
    end
  end
  if more == '0' then
    if moved_from then
      append(departures, close_gateway(moved_from))
    end
    for _, session in ipairs(cjson.decode(others)) do
      kept[session] = {}
    end
    for _, session in ipairs(call('HKEYS', P .. 'gateway:' .. gateway)) do
      if not kept[session] then
        append(departures, close_session(gateway, session))
      end
    end
  end
  return {departures, entries, gone}
end

function commands.gateways()
  return call('SMEMBERS', P .. 'gateways')
end

function commands.present(room, limit)
  local users = sorted(call('HKEYS', P .. 'room:' .. room .. ':there'))
  local rows = {}
  for place = 1, math.min(limit, #users) do
    rows[place] = user_row(users[place])
  end
  return {rows, #users, call('HGET', P .. 'room:' .. room, 'changes') or '0'}
end

function commands.is_present(room, user)
  return is_present(room, user) and 1 or 0
end
