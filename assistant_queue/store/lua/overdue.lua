-- Read: the threads at which somebody should have looked by now, longest overdue first, and when the next one is due.
-- KEYS: due paused timer
-- ARGV: now limit even_paused watchman term_ms spare_ms
-- Returns {now in ms with three decimals, ms of the earliest thread that is not overdue or '', 'timer' if the watchman that asks keeps the time
--          or '', that earliest thread's id or '', '', overdue thread ids ...}; no thread changes
-- A paused queue has none, unless even_paused asks for them. watchman: '' for somebody who keeps no time and is told of all.
--! include common look
local keeps = arg.watchman ~= '' and keeps_time()
local overdue_by = (keeps or arg.watchman == '') and 0 or tonumber(arg.spare_ms)
return look(keeps, overdue_by, arg.even_paused ~= '', '')
