-- Event `wake`: look at one overdue thread: book the passing of its window, and see that a wake-up is on its way.
-- KEYS: thread due counters paused scheduled queue queues job
-- ARGV: now thread_id recheck_ms guard_ms back_ms patience_ms search tick function origin stamp job_id
-- Returns {'woken'} a wake-up was handed to the queue   {'waiting'} one is in the queue already   {'early'} it is not overdue   {'idle'}
--         {'rewound'} nor is it now that its times are moved: Redis' clock was set back
--         {'paused'} the whole queue is: the passing of time was booked, nobody is woken
--! include common wakeup due rewind wake
return {wake_thread()}
