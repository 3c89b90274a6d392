-- When a job lets itself be taken: its record may name hours, kiln_hours: '<from>-<to>,…' in seconds since 1970, the
-- windows of a week. Weeks later they are the same again, an hour off where clocks were set since.

local hours = {}

local WEEK = 7 * guard.DAY

-- When it may be taken next; nil where that is now.
local function opens(job)
  local spans, shift = {}, 0
  for from, to in string.gmatch(guard.field(job, 'kiln_hours', 1024) or '', '(%d+)%-(%d+)') do
    spans[#spans + 1] = { tonumber(from), tonumber(to) }
  end
  local last = spans[#spans]
  if last and last[2] <= claim.now then shift = math.ceil((claim.now - last[2] + 1) / WEEK) * WEEK end
  for _, span in ipairs(spans) do
    local from, to = span[1] + shift, span[2] + shift
    if claim.now < to then return claim.now < from and from or nil end
  end
end

-- Whether it may not be taken now. Then it waits for the next of its hours as a scheduled job does, in its order.
function hours.put_off(lane, job)
  local due = opens(job)
  if not due then return false end
  local set = key.SCHEDULED(guard.home(lane))
  guard.become(set, 'zset')
  redis.call('HSET', key.JOB(job), 'status', 'scheduled')
  redis.call('ZADD', set, due + redis.call('ZCARD', set) / 1000000, job)
  return true
end
