-- Read: the overdue threads, longest overdue first, and the next due time.
-- KEYS: due stopping paused leader
-- ARGV: now limit even_paused scheduler term_ms spare_ms
-- Returns {now in ms with three decimals, ms of the earliest thread that is not overdue or '',
--          'leader' if the scheduler that asks is the leader or '', that earliest thread's id or '',
--          '', overdue thread ids ...}; no thread changes
-- A paused queue has only those with a batch that is to be stopped, unless even_paused asks for all.
-- scheduler: '' for a caller that is no scheduler, never becomes the leader, and gets all overdue
-- threads.
--! include common look
local leads = arg.scheduler ~= '' and is_leader()
local overdue_by = (leads or arg.scheduler == '') and 0 or tonumber(arg.spare_ms)
return look(leads, overdue_by, arg.even_paused ~= '', '')
