-- A picture of the job lies spooled: may that execution go on? a: job, execution, lane, worker, stamp, lease.
-- What it cost is known by now and charged when it is settled, so no estimate stands for it.
-- Returns 'owned', 'gone', or the job's status.

local status = claim.status(a.job)
if not status then return 'gone' end
local there = status == 'queued' and guard.field(a.job, 'origin', 256)
if not there or guard.home(there) ~= a.lane then there = a.lane end -- it may have been left to larger workers since
local ours = claim.holds(a.job, a.execution)
if ours or status == 'queued' then
  if not ours then guard.strike(there, a.job) end
  claim.own(a.job, a.execution, a.lane, { worker = a.worker, stamp = a.stamp, lease = a.lease, estimate = 0 })
  return 'owned'
end
return status
