-- Event `map`: a conversation was created for a mapped thread. Set once: the loser of a race gets
-- the winner's.
-- KEYS: thread conversation
-- ARGV: now token conversation_id
-- Returns {the thread's conversation id, its anchor or ''}
--         the id is '' for none: the lease is lost, nothing has changed
-- token: of the lease under which the conversation was created; '' if it was created under none.
--! include common
if arg.token == '' or holds(read_thread()) then
  redis.call('HSETNX', key.conversation, 'id', arg.conversation_id)
end
local found = redis.call('HMGET', key.conversation, 'id', 'anchor')
return {found[1] or '', found[2] or ''}
