-- Event `progress`, of a delivery: a part is about to be sent, or was sent; or the holder is about
-- to call user code.
-- KEYS: delivering
-- ARGV: now token batch_id number progress waits
-- Returns {'ok'} or {'lost'}: nothing has changed
-- A late copy changes nothing, and gets the same reply as the first call.
--! include common outbox
local d = read_delivery()
if d.token ~= arg.token or d.batch ~= arg.batch_id then return {'lost'} end
if tonumber(arg.number) > number_of(d.number) then
  -- A part that was sent is progress: earlier deaths were not over the next one.
  if arg.waits == '' and d.progress and d.progress ~= arg.progress then
    redis.call('HSET', key.delivering, 'deaths', '0')
  end
  redis.call('HSET', key.delivering, 'progress', arg.progress, 'waits', arg.waits,
    'number', arg.number)
end
return {'ok'}
