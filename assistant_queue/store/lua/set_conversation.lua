-- Event `map`: a conversation was created for a mapped thread. Set once: the loser of a race learns the winner's.
-- KEYS: thread conversation
-- ARGV: now token conversation_id
-- Returns {the conversation id that counts, its anchor or ''}; '' for none: the lease is lost, nothing has changed
-- token: of the lease under which the conversation was created; '' where it was created under none.
--! include common
if arg.token == '' or holds(read_thread()) then redis.call('HSETNX', key.conversation, 'id', arg.conversation_id) end
local found = redis.call('HMGET', key.conversation, 'id', 'anchor')
return {found[1] or '', found[2] or ''}
