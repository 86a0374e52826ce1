-- The chat's store on Redis. One script of all these files, in the order of the names in
-- scripts.py: a call names a command (ARGV[1]) and gives its arguments, all of them strings. Redis
-- runs a script alone, so every command is a transaction; each looks first and writes then, so that
-- an error leaves nothing half done.
--
-- Answers are lists of strings and numbers, '' for what is absent; or one of the words below.
--
-- All keys begin with KEYS[1]. Below, ID is a user's, room's or message's id, HOLDER a session with
-- its gateway, as JSON:
--
--   schema                   the version of this layout
--   counters                 hash: the last id of users, rooms, messages
--   user:ID                  hash: uuid, username, kind, created, password
--   names:KIND               hash: a name's key -> user id
--   uuids                    hash: uuid -> user id
--   users, accounts          sorted sets of user ids: all but the anonymous one; accounts
--   online                   set of the ids of users with sessions
--   tokens, expiries         hash: digest -> user id; sorted set: digest by its end
--   room:ID                  hash: name, description, kind, ephemeral, creator, created, password,
--                            first, second, messages, changes
--   roomnames, pairs         hashes: name -> room id; "first:second" -> room id
--   rooms:KIND               sorted set of room ids
--   room:ID:there            hash: user id -> how many of their sessions are in the room
--   gateways                 set of the gateways that have sessions
--   gateway:NAME             hash: session -> user id
--   user:ID:sessions         set of HOLDERs; user:ID:exclusive: of those that have the name alone
--   places:HOLDER            set of room ids
--   message:ID               hash: room, number, user, username, text, time, key
--   room:ID:messages         sorted set of message ids, by number; room:ID:by:ID those of a user
--   public, public:by:ID     sorted sets of the ids of messages in public rooms; those of a user
--   keys                     hash: a message's key -> message id
--   visits                   hash: day -> count, and `total`

local P = KEYS[1]
local call = redis.call
local commands = {}

local TAKEN = redis.status_reply('TAKEN')
local ABSENT = redis.status_reply('ABSENT')

local function next_id(what)
  return tostring(call('HINCRBY', P .. 'counters', what, 1))
end

-- Sort ids, which are strings, as the numbers that they are.
local function sorted(ids)
  table.sort(ids, function(one, other) return tonumber(one) < tonumber(other) end)
  return ids
end

local function append(list, more)
  for _, item in ipairs(more) do
    list[#list + 1] = item
  end
end

local function exists(key)
  return call('EXISTS', P .. key) == 1
end

local function page(key, offset, limit)
  if tonumber(limit) == 0 then
    return {}
  end
  return call('ZRANGE', P .. key, offset, offset + limit - 1)
end
