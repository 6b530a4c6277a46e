"""What the server does in one piece: all of it or nothing, with nobody between.

Each script checks before it writes, and all of them may run twice: the second time changes nothing.
"""

from __future__ import annotations

# KEYS counter, generations → the next number. A counter that was lost is set beyond all generations.
ALLOCATE = """
local number = redis.call('INCR', KEYS[1])
local newest = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
if newest and tonumber(newest) >= number then
  number = tonumber(newest) + 1
  redis.call('SET', KEYS[1], string.format('%.0f', number))
end
return number
"""

# KEYS generations, chunks; ARGV number, seconds to live, writer → 1, or 0 where another save has the number.
START = """
if redis.call('EXISTS', KEYS[2]) == 1 and redis.call('HGET', KEYS[2], 'writer') ~= ARGV[3] then
  return 0
end
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  redis.call('HSET', KEYS[2], 'writer', ARGV[3])
  redis.call('EXPIRE', KEYS[2], ARGV[2])
end
return 1
"""

# KEYS generations, chunks; ARGV number, seconds to live. May come late, over a connection that was thought to be lost:
# what is committed stays for good.
RENEW = """
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  redis.call('EXPIRE', KEYS[2], ARGV[2])
end
return 1
"""

# KEYS generations, records, chunks; ARGV number, record, writer, fields of the hash → 1, or 0 where chunks are missing.
# The record of a repeated commit is put again: WAITAOF waits for writes of its own connection only.
COMMIT = """
if redis.call('HGET', KEYS[3], 'writer') ~= ARGV[3] or redis.call('HLEN', KEYS[3]) ~= tonumber(ARGV[4]) then
  return 0
end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('PERSIST', KEYS[3])
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[1])
return 1
"""

# KEYS generations, chunks; ARGV number, writer. Frees what a failed save has sent, unless it was committed after all.
ABANDON = """
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) and redis.call('HGET', KEYS[2], 'writer') == ARGV[2] then
  redis.call('UNLINK', KEYS[2])
end
return 1
"""

# KEYS generations, records, chunks; ARGV number.
REMOVE = """
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('UNLINK', KEYS[3])
return 1
"""

# KEYS generations, records, chunks, quarantine; ARGV number, reason, seconds to live
# → 1, or 0 where the generation is not there any more.
QUARANTINE = """
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then
  return 0
end
redis.call('HSET', KEYS[4], ARGV[1], ARGV[2])
local record = redis.call('HGET', KEYS[2], ARGV[1])
if record then
  redis.call('HSET', KEYS[4], ARGV[1] .. ':record', record)
end
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('EXPIRE', KEYS[3], ARGV[3])
return 1
"""
