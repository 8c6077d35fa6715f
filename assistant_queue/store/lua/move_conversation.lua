-- Event `move`: a mapped thread goes on in another conversation, because the old one is longer than the model reads.
-- KEYS: thread conversation
-- ARGV: now token old_id conversation_id anchor
-- Returns {'ok'}: the thread has the new conversation, or had another than the old one already;   {'lost'}: nothing has changed
-- A second call finds the new conversation and changes nothing.
--! include common
local t = read_thread()
if not holds(t) then return {'lost'} end
if redis.call('HGET', key.conversation, 'id') ~= arg.old_id then return {'ok'} end
redis.call('HSET', key.conversation, 'id', arg.conversation_id)
redis.call('HDEL', key.conversation, 'anchor', 'open')
if arg.anchor ~= '' then redis.call('HSET', key.conversation, 'anchor', arg.anchor) end
return {'ok'}
