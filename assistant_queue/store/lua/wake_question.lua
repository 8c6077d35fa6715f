-- Event `wake`, of a question: check one that no process of this package asks: make sure that a
-- wake-up is on its way.
-- KEYS: call questions queue queues job
-- ARGV: now thread_id call_id spare_ms patience_ms function origin stamp job_id
-- Returns {'woken'} a wake-up was enqueued   {'waiting'} one was enqueued a while ago
--         {'early'} it is not overdue
--! include common wakeup
local score = redis.call('ZSCORE', key.questions, arg.call_id)
if not score or tonumber(score) > now - tonumber(arg.spare_ms) then return {'early'} end
local known = redis.call('HMGET', key.call, 'thread', 'woken')
if not known[1] then
  redis.call('ZREM', key.questions, arg.call_id)
  return {'early'}
end
if math.abs(now - (tonumber(known[2] or '') or 0)) < tonumber(arg.patience_ms) then
  return {'waiting'}
end
redis.call('HSET', key.call, 'woken', ms(now))
write_job('queued')
redis.call('HSET', key.job, 'enqueued_at', arg.stamp)
redis.call('RPUSH', key.queue, arg.job_id)
return {'woken'}
