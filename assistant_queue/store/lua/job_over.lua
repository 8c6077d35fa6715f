-- Event `job_over`: an RQ job of the concurrent worker ended without a batch that ends: nothing was due, or the lease was lost.
-- KEYS: taken execution executions started books running
-- ARGV: now token worker taken outcome
-- Returns {'ok'}; outcome is successful or failed, as RQ counts
--! include common job
end_job(arg.outcome)
return {'ok'}
