-- Event `unmark`: what is stored of a conversation's end is not so any more, or will not be: the holder of a direct call writes behind it.
-- KEYS: thread conversation
-- ARGV: now token field
-- Returns {'forgotten'} or {'lost'}: nothing has changed
-- field: `anchor`, the end itself, or `open`, the calls that were left unanswered there.
--! include common
if not holds(read_thread()) then return {'lost'} end
redis.call('HDEL', key.conversation, arg.field)
return {'forgotten'}
