-- Event `map`: a conversation was created for a mapped thread. Set once: the loser of a race learns the winner's.
-- KEYS: conversation
-- ARGV: now conversation_id
-- Returns {the conversation id that counts, its anchor or ''}
--! include common
redis.call('HSETNX', key.conversation, 'id', arg.conversation_id)
local found = redis.call('HMGET', key.conversation, 'id', 'anchor')
return {found[1], found[2] or ''}
