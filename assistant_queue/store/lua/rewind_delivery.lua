-- Event `wake`, of a delivery: Redis' clock was set back; move the times of the reply at the head of
-- a thread's outbox.
-- KEYS: outbox delivering deliveries scheduled
-- ARGV: now thread_id back_ms guard_ms
-- Returns {'rewound'} or {'early'}: nothing has changed
--! include common wakeup outbox delivery_rewind
if redis.call('EXISTS', key.delivering) == 0 then return {'early'} end
return {delivery_rewound(read_delivery(), tonumber(arg.back_ms)) and 'rewound' or 'early'}
