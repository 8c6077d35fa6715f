-- Event `record_operation`: an operator's change begins, or has ended.
-- KEYS: operations
-- ARGV: entry begun most
-- Returns {'ok'}, or {'gone'} if that with which it began is in the list no more: its thread was
--         forgotten, or many others have begun since; nothing was changed then
-- begun: the entry with which the change began, and which `entry` replaces; '' as it begins.
-- A call whose reply was lost is repeated: an entry names its operation by a random text.
if arg.begun == '' then
  if not redis.call('LPOS', key.operations, arg.entry) then
    redis.call('LPUSH', key.operations, arg.entry)
    redis.call('LTRIM', key.operations, 0, tonumber(arg.most) - 1)
  end
  return {'ok'}
end
local place = redis.call('LPOS', key.operations, arg.begun)
if not place then return {'gone'} end
redis.call('LSET', key.operations, place, arg.entry)
return {'ok'}
