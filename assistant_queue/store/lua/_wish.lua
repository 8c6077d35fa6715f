-- Wishes: another process wants the frozen batch of a thread to end or to change. The field `wish`
-- is the kind and the batch's id; of another batch than the frozen one it means nothing, and nor
-- does it once results are stored. The holder of the lease obeys, or the worker that claims the
-- thread next.
-- arg.seen, in scripts that have it: the kind of wish that the caller knows of, '' for none.

local function wish_of(t)
  local kind, batch = string.match(t.wish or '', '^(%a+) (%S+)$')
  return batch and batch == t.batch and t.phase ~= 'delivering' and kind or ''
end

-- The caller is about to end the batch, or to leave it for later, and does not know that it is to
-- be stopped.
local function is_stopped_unseen(t) return arg.seen ~= 'stop' and wish_of(t) == 'stop' end
