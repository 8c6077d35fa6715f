-- Event `park`: the reply cannot be delivered, or it is not known whether it was. It leaves the
-- line for the failed list, from where it can be delivered again without another run.
-- KEYS: thread outbox delivering deliveries counters record reply failed paused scheduled guard
--       events feed journal metrics
-- ARGV: now thread_id token batch_id guard_id failure word progress lease_ms next guard_ms events
--       journal journal_most journal_ttl_ms counts
-- Returns {'settled', {next entry or '', its progress, ms until, now}} or {'lost'}: nothing has
--         changed
-- word: undelivered or unknown. A fallback only leaves the line: its batch is in the failed list.
--! include common events person outbox settle_reply journal counts
local d = read_delivery()
local word = settling(d)
if word then return word end
local entry = redis.call('LINDEX', key.outbox, 0)
local _, _, kind = reply_of(entry)
count_step()
if kind == 'fallback' then
  note_on_record(arg.word)
else
  redis.call('DEL', key.reply)
  redis.call('HSET', key.reply, 'entry', entry, 'progress', arg.progress)
  -- The record of a reply that waited for long has expired.
  redis.call('HSET', key.record, 'thread', arg.thread_id, 'state', 'completed',
    'delivery', arg.word, 'settled_by', arg.token, 'failure', arg.failure, 'failed_at', ms(now))
  redis.call('PERSIST', key.record)
  redis.call('ZADD', key.failed, ms(now), arg.batch_id)
  add_to('undelivered', 1)
end
journal_delivery()
if is_watched() then
  publish('delivery_failed', cjson.encode({batch_id = arg.batch_id, failure = arg.failure}))
end
return {'settled', leave_line(read_thread(), d)}
