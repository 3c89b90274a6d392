-- Give a job back. a: job, execution, lane, worker, crashes: how many are allowed, where it crashed its worker.
-- Returns 'back', 'blamed' where it crashed once too often and is still owned, to be failed, or 'lost'.

if not claim.holds(a.job, a.execution) then return 'lost' end
if not a.crashes then
  claim.give_back(a.job, a.execution, a.lane, a.worker)
  return 'back'
end
local crashes = claim.number_at(key.BLAME(a.job), 'crashes')
return claim.crash(a.job, a.execution, a.lane, a.worker, 'crashes', crashes, a.crashes)
