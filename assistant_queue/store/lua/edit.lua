-- Event `edit`: a waiting message gets another content; its place and its window stay.
-- KEYS: thread pending message
-- ARGV: now message_id entry digest
-- Returns {'edited'}; {'gone' | 'settled' | 'taken'}: nothing has changed
--! include common waiting
local index = waiting_index(read_thread())
if type(index) == 'string' then return {index} end
redis.call('LSET', key.pending, ms(index), arg.entry)
redis.call('HSET', key.message, 'digest', arg.digest)
return {'edited'}
