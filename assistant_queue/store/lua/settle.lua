-- Event `settle`: an answer to a tool call for which a batch waits. The first one counts.
-- KEYS: thread call approvals questions due metrics counters scheduled queue queues job events feed
-- ARGV: now thread_id call_id nonce verdict news recheck_ms tick function origin stamp job_id
--       events counts
-- Returns {'settled'}
--         {'before'}: it was settled before; nothing has changed
--         {'unknown'}: there is no such call, or its batch is over; nothing waits for it
-- verdict: JSON, opaque here. news: the event's fields, JSON. nonce: of this very call; a second one
-- gets the same reply. A parked batch is due now; in every other state its holder, or the next one,
-- reads the verdict.
--! include common wakeup events wish person compact parked counts
local known = redis.call('HMGET', key.call, 'batch', 'verdict', 'nonce', 'settled', 'sent',
  'asker')
if known[2] or known[4] then return {known[3] == arg.nonce and 'settled' or 'before'} end
local t = read_thread()
if not is_of(t.batch, known[1]) then
  redis.call('ZREM', key.approvals, arg.call_id)
  redis.call('ZREM', key.questions, arg.call_id)
  redis.call('DEL', key.call)
  return {'unknown'}
end
redis.call('HSET', key.call, 'verdict', arg.verdict, 'nonce', arg.nonce, 'settled', ms(now))
redis.call('ZREM', key.approvals, arg.call_id)
settle_question(arg.call_id, known[5], known[6])
count_step()
drop_ask(t, arg.call_id)
if is_watched() then publish_settled(t, arg.call_id) end
if is_parked(t) then end_park(t) end
return {'settled'}
