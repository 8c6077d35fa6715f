-- Event `move`: a mapped thread continues in another conversation, because the current one exceeds
-- the model's context; the batch's progress is written in the same step, so that the new
-- conversation's end is never looked for in the old one.
-- KEYS: thread conversation
-- ARGV: now token number old_id conversation_id anchor phase progress
-- Returns {'ok', the conversation that the thread has now, '' for none}
--         {'lost'}: nothing has changed
-- A thread that has another conversation than `old_id` keeps it: nothing has changed. A second call
-- changes nothing.
--! include common
local t = read_thread()
if not holds(t) then return {'lost'} end
local found = redis.call('HGET', key.conversation, 'id') or ''
if found ~= arg.old_id or is_late(t.number) then return {'ok', found} end
redis.call('HSET', key.conversation, 'id', arg.conversation_id)
redis.call('HDEL', key.conversation, 'anchor', 'open')
if arg.anchor ~= '' then redis.call('HSET', key.conversation, 'anchor', arg.anchor) end
redis.call('HSET', key.thread, 'phase', arg.phase, 'progress', arg.progress, 'deaths', '0',
  'number', arg.number)
return {'ok', arg.conversation_id}
