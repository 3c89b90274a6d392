-- What every script begins with, after the names of the keys (jobs/keys.py); its arguments are in `a`.
--
-- A producer may have written anything under RQ's keys, so reads of them take no type and no size for granted.
-- No key is declared to Redis: a script that looks for the best of many lanes cannot name them, and a farm's
-- Redis is one server.

local guard = {}

guard.DAY = 86400
guard.MAILS = 5000 -- that are kept; looking through the queues finds what more would tell

-- Delete a key that holds the wrong type: losing it beats stopping everyone who needs it. UNLINK, here and elsewhere,
-- for what strangers may have filled: it is freed beside, where DEL would hold the server up.
-- Not without need: a script's first write is where a full Redis refuses it, and UNLINK it would let pass.
function guard.become(name, kind)
  local found = redis.call('TYPE', name).ok
  if found ~= kind and found ~= 'none' then redis.call('UNLINK', name) end
end

-- A field of a hash: '' where it is missing or too long, nil where the key holds something else.
function guard.short(hash, name, longest)
  local size = redis.pcall('HSTRLEN', hash, name)
  if type(size) ~= 'number' then return nil end
  return size > 0 and size <= longest and redis.call('HGET', hash, name) or ''
end

-- A field of a job's record, likewise.
function guard.field(job, name, longest)
  return guard.short(key.JOB(job), name, longest)
end

-- Whether a job is a client's, by its own record: any producer may list it in another's lane. '' or nil is any client.
function guard.of(job, client)
  if not client or client == '' then return true end
  local _, _, whose = guard.parts(guard.field(job, 'origin', 1024) or '')
  return whose == client
end

-- The execution that owns a job, or nil.
function guard.owner(job)
  local owner = redis.pcall('GETRANGE', key.OWNER(job), 0, 127) -- whatever a producer wrote there
  return type(owner) == 'string' and owner ~= '' and owner or nil
end

-- Take an id out of a lane. Near the front only, so that a long lane costs no more; further back a take drops what
-- does not wait.
function guard.strike(lane, job)
  if type(redis.pcall('LPOS', key.QUEUE(lane), job, 'MAXLEN', 1000)) == 'number' then
    redis.call('LREM', key.QUEUE(lane), 1, job)
  end
end

-- Let the next take look at a lane. A hint, so a list whose end may be lost, and no set: to free a large set, or to
-- draw from one, holds the server up for long. Where it cannot be written, workers find the lane within a second.
function guard.mail(lane)
  local told = redis.pcall('LPUSH', key.MAIL, lane)
  if type(told) == 'table' and string.find(told.err, 'WRONGTYPE', 1, true) then
    redis.pcall('UNLINK', key.MAIL)
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
