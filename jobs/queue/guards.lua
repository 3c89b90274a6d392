-- What every script begins with, after the names of the keys (jobs/keys.py); its arguments are in `a`.
--
-- A producer may have written anything under RQ's keys, so reads of them take no type and no size for granted.
-- No key is declared to Redis: a script that looks for the best of many lanes cannot name them, and a farm's
-- Redis is one server.

local guard = {}

guard.DAY = 86400
guard.MAILS = 5000 -- that are kept; looking through the queues finds what more would tell

-- Delete a key that holds the wrong type: losing it beats stopping everyone who needs it.
-- Not without need: a script's first write is where a full Redis refuses it, and DEL it would let pass.
function guard.become(name, kind)
  local found = redis.call('TYPE', name).ok
  if found ~= kind and found ~= 'none' then redis.call('DEL', name) end
end

-- A field of a job's record: '' where it is missing or too long, nil where the record is none.
function guard.field(job, name, longest)
  local size = redis.pcall('HSTRLEN', key.JOB(job), name)
  if type(size) ~= 'number' then return nil end
  return size > 0 and size <= longest and redis.call('HGET', key.JOB(job), name) or ''
end

-- Let the next take look at a lane. A hint, so a list whose end may be lost, and no set: to free a large set, or to
-- draw from one, holds the server up for long. Where it cannot be written, workers find the lane within a second.
function guard.mail(lane)
  local told = redis.pcall('LPUSH', key.MAIL, lane)
  if type(told) == 'table' and string.find(told.err, 'WRONGTYPE', 1, true) then
    redis.pcall('DEL', key.MAIL)
    told = redis.pcall('LPUSH', key.MAIL, lane)
  end
  if type(told) == 'number' and told > guard.MAILS then redis.call('LTRIM', key.MAIL, 0, guard.MAILS - 1) end
end

-- Kind, priority and client of a lane; nothing where it is none.
function guard.parts(lane)
  return string.match(lane, '^kiln:([^:]+:[^:]+):([^:]+):([^:]+)$')
end

-- The lane that jobs belong in which were left to larger workers (worker/queue/lua/leave.lua): 'kind>bytes' is
-- no kind of its own. Any other lane is its own home.
function guard.home(lane)
  return (string.gsub(lane, '^(kiln:[^:]+:[^:>]+)>[^:]*:', '%1:'))
end
