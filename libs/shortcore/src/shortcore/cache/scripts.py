"""All Lua scripts that run in Redis. On a Cluster, each is called with one key."""

PUBLISH = """
-- KEYS: the links. ARGV: the maximum age in ms, then for each link the record, its TTL in ms, and
-- the time of its read (Unix ms). Returns for each link: 1 taken, 0 Redis had this or a newer
-- version, -1 read too long ago.
local time = redis.call('TIME')
local oldest = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[1]
local results = {}
for number, key in ipairs(KEYS) do
  local record, ttl, read_at = ARGV[3 * number - 1], ARGV[3 * number], ARGV[3 * number + 1]
  local result = 1
  if tonumber(read_at) < oldest then
    result = -1
  else
    -- A value that is not a record (another type, an impossible version) is replaced. Otherwise it
    -- would stay for ever, and fail every batch of the relay.
    local current = redis.pcall('GETRANGE', key, 0, 7)
    if type(current) == 'string' and #current == 8 then
      local version = struct.unpack('>I8', current)
      if version >= struct.unpack('>I8', record) and version <= 9007199254740992 then
        result = 0
      end
    end
    if result == 1 then redis.call('SET', key, record, 'PX', ttl) end
  end
  results[number] = result
end
return results
"""
"""Compare-and-set on the version: the newest version wins, in whatever order replies arrive.

Links are independent of each other, so that on a Cluster each call gets one.
"""

APPEND = """
-- KEYS[1]: the change feed. ARGV: the payload, the maximum length, the maximum age in ms, a random
-- number. Every entry names its predecessor, so that a reader notices a gap (trimmed, flushed, failed
-- over to a replica without the last entries) when the next entry arrives. The second part of an id
-- is random, so that after a failover no new entry gets the id of a lost one.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local previous, at, sequence = '0-0', now, tonumber(ARGV[4])
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if last[1] then
  previous = last[1][1]
  local last_at, last_sequence = string.match(previous, '^(%d+)-(%d+)$')
  if tonumber(last_at) >= now then
    at, sequence = tonumber(last_at), tonumber(last_sequence) + 1 + sequence
  end
end
local id = string.format('%.0f-%.0f', at, sequence)
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], id, 'd', ARGV[1], 'p', previous)
local oldest = now - tonumber(ARGV[3])
if oldest > 0 then
  redis.call('XTRIM', KEYS[1], 'MINID', '~', string.format('%.0f', oldest))
end
return id
"""
"""Append an entry that names its predecessor to the change feed."""

BOOK = """
-- KEYS[1]: a schedule of slots. ARGV: the ms between slots, the slots of a burst, the slots to book
-- (-1 returns one). Returns the ms until the booked slot.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
-- A value that is not a number, or is further ahead than redirectors can have booked, is replaced.
-- Otherwise the link would wait for ever.
local due = redis.pcall('GET', KEYS[1])
due = type(due) == 'string' and tonumber(due) or now
if due < now or due > now + (burst + 1000) * interval then due = now end
local wait = math.max(0, due - now - (burst - 1) * interval)
due = due + tonumber(ARGV[3]) * interval
if due > now then
  redis.call('SET', KEYS[1], string.format('%.0f', due), 'PX', string.format('%.0f', due - now + 1))
else
  redis.call('DEL', KEYS[1])
end
return math.ceil(wait)
"""
"""Book a slot of a schedule (the generic cell rate algorithm)."""
