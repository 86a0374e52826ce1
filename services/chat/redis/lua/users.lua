-- Users and tokens.

local function user_row(id)
  local found = call('HMGET', P .. 'user:' .. id, 'uuid', 'username', 'kind', 'created')
  if not found[1] then
    return false
  end
  local online = call('EXISTS', P .. 'user:' .. id .. ':sessions')
  return {id, found[1], found[2], found[3], found[4], online}
end

local function named(kind, key)
  return call('HGET', P .. 'names:' .. kind, key)
end

local function add_user(kind, username, key, uuid, now, password)
  local id = next_id('user')
  call('HSET', P .. 'user:' .. id, 'uuid', uuid, 'username', username, 'kind', kind,
    'created', now, 'password', password)
  call('HSET', P .. 'names:' .. kind, key, id)
  call('HSET', P .. 'uuids', uuid, id)
  if kind ~= 'anonymous' then
    call('ZADD', P .. 'users', id, id)
  end
  if kind == 'account' then
    call('ZADD', P .. 'accounts', id, id)
  end
  return id
end

function commands.add_account(username, key, uuid, now, password)
  local guest = named('guest', key)
  if named('account', key) or (guest and exists('user:' .. guest .. ':sessions')) then
    return TAKEN
  end
  return user_row(add_user('account', username, key, uuid, now, password))
end

function commands.user_by_id(id)
  return user_row(id)
end

function commands.user_by_uuid(uuid)
  local id = call('HGET', P .. 'uuids', uuid)
  return id and user_row(id)
end

function commands.user_by_name(key)
  local id = named('account', key) or named('anonymous', key) or named('guest', key)
  return id and user_row(id)
end

function commands.password_hash(key)
  local id = named('account', key)
  return id and {user_row(id), call('HGET', P .. 'user:' .. id, 'password')}
end

function commands.users(list, offset, limit)
  local rows = {}
  for _, id in ipairs(page(list, offset, limit)) do
    rows[#rows + 1] = user_row(id)
  end
  return {rows, call('ZCARD', P .. list)}
end

function commands.add_token(digest, user, expires, now)
  if not exists('user:' .. user) then
    return ABSENT
  end
  for _, old in ipairs(call('ZRANGEBYSCORE', P .. 'expiries', '-inf', now)) do
    call('HDEL', P .. 'tokens', old)
    call('ZREM', P .. 'expiries', old)
  end
  call('HSET', P .. 'tokens', digest, user)
  call('ZADD', P .. 'expiries', expires, digest)
  return 1
end

function commands.token_user(digest, now)
  local expires = call('ZSCORE', P .. 'expiries', digest)
  if not expires or tonumber(expires) <= tonumber(now) then
    return false
  end
  return user_row(call('HGET', P .. 'tokens', digest))
end

function commands.remove_token(digest)
  call('ZREM', P .. 'expiries', digest)
  return call('HDEL', P .. 'tokens', digest)
end
