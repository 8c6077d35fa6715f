-- Event `deliver`: the platform has the reply; it leaves the outbox.
-- KEYS: thread outbox delivering deliveries counters record paused scheduled guard events feed
--       journal metrics
-- ARGV: now thread_id token batch_id guard_id result_ttl_ms lease_ms next guard_ms events
--       journal journal_most journal_ttl_ms counts
-- Returns {'settled', {next entry or '', its progress, ms until, now}} or {'lost'}: nothing has
--         changed
-- next: 1 if the caller delivers the next reply, too; then it holds the lease on it.
--! include common events person outbox settle_reply journal counts
local d = read_delivery()
local word = settling(d)
if word then return word end
local _, _, kind = reply_of(redis.call('LINDEX', key.outbox, 0))
note_on_record('delivered')
if redis.call('EXISTS', key.record) == 1 then
  redis.call('HSET', key.record, 'delivered_at', ms(now))
  if kind == 'late' then redis.call('PEXPIRE', key.record, arg.result_ttl_ms) end
end
add_to('delivered', 1)
journal_delivery()
count_step()
if is_watched() then
  publish('reply_delivered', cjson.encode({batch_id = arg.batch_id, late = kind == 'late'}))
end
return {'settled', leave_line(read_thread(), d)}
