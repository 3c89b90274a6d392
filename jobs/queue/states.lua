-- How jobs stand, in few words: a batch has thousands. a: jobs (ids), client or nil for any.
-- Returns per job '' where there is none of that client, else its status, 'held' among these, when it was started and ended,
-- '-' where it was not, and '!' where the checks found something in its picture, else '-'.

local function moment(job, name)
  local at = guard.field(job, name, 40)
  return at and string.match(at, '^%S+$') or '-'
end

local told = {}
for i, job in ipairs(a.jobs) do
  local there = redis.call('TYPE', key.JOB(job)).ok == 'hash' and guard.of(job, a.client)
  local status = there and guard.field(job, 'status', 32)
  if status == '' then status = 'queued' end
  if status == 'deferred' and guard.field(job, 'kiln_held', 8) == '1' then status = 'held' end
  local found = status == 'finished' and redis.pcall('HSTRLEN', key.JOB(job), 'kiln_suspicious')
  local mark = type(found) == 'number' and found > 0 and '!' or '-'
  local times = moment(job, 'started_at') .. ' ' .. moment(job, 'ended_at')
  told[i] = status and table.concat({ status, times, mark }, ' ') or ''
end
return told
