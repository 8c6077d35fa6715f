-- Event `unmark`: the stored end of a conversation is outdated, or is about to be: the holder of a
-- direct call writes after it.
-- KEYS: thread conversation
-- ARGV: now token field
-- Returns {'forgotten'} or {'lost'}: nothing has changed
-- field: `anchor`, the end itself, or `open`, the tool calls left unanswered there.
--! include common
if not holds(read_thread()) then return {'lost'} end
redis.call('HDEL', key.conversation, arg.field)
return {'forgotten'}
