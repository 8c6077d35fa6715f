-- Shared by every script: the glossary, the time, the thread's hash and the counters.
--
-- A script's header is its contract. `KEYS:` and `ARGV:` name its parameters in order, on one line
-- or on indented ones; `store/scripts.py` turns them into the tables `key` and `arg`. A name with a
-- star takes all remaining keys, as `rest_key(i)`.
--
-- Keys of the queue (all under the prefix; store/keys.py has their lifetimes)
--   thread        hash    one thread that is not idle; fields below
--   pending       list    its waiting messages, packed, oldest first; '' replaces a cancelled one
--   frozen        list    the messages of its current batch, packed, in order
--   conversation  hash    id, anchor, open: the provider's side of the thread; outlives idleness
--   message       hash    one message: thread, seq, rev, digest, nonce, at (ms), due, job, labels,
--                         batch, state, cancelled_by, edited_by, returned_by, entry, chars,
--                         revision (an edit or a removal that is to be made), said
--                         (of a reply of `say`: the record that has its delivery), again (nonces of
--                         the latest adds that found the message there)
--   record        hash    the outcome of a batch: thread, state, token, discarded_by, result,
--                         account (times, attempts), delivery, delivered_at (ms) ...
--   pace          string  mean and mean deviation of the ms between two messages, ms of the last
--                         one; of threads with an adaptive window (_pace.lua)
--   over          string  present while a late copy of a call that took effect may still arrive
--   delivery      string  open, done: an `on_reply` call that exceeded its time, and still runs or
--                         has returned
--   dead          list    the messages of a failed batch, packed
--   outbox        list    replies of the thread that wait for their delivery (_outbox.lua)
--   delivering    hash    state of the delivery at the head of the outbox (_outbox.lua)
--   deliveries    zset    thread id -> ms at which its delivery must be checked at the latest
--   reply         hash    a reply in the failed list: entry, progress
--   journal       list    what became of the thread's latest batches (_journal.lua)
--   audit         list    batches that ended, until they are in the audit's database (_audit.lua)
--   auditing      hash    token, until: the lease of the worker that writes them there; head: the
--                         number of the first of them; lost: those for which there was no room
--   runs          hash    run id -> thread id, of batches that are parked while the provider works
--   heard         string  present while webhooks of the provider work
--   early         string  a webhook came before the batch of its run was parked
--   webhook       string  a webhook that woke a batch
--   polls         string  ms from which the next poll of a run may be made
--   due           zset    thread id -> ms at which the thread must be checked at the latest
--   stopping      zset    id of a thread with a batch that is to be stopped -> ms at which the thread
--                         must be checked also while the whole queue is paused
--   failed        zset    batch id -> ms when it failed
--   call          hash    a tool call that is answered from outside: thread, batch (_compact.lua),
--                         at (ms), until (ms), ask (what is asked, packed, with a1, a2 ...; of an
--                         earlier version its event, JSON), verdict, nonce, settled (ms); asker
--                         (the worker that asks about it on a channel, or, after `-`, did so last),
--                         asker_deaths, tries (that failed), sent (the channel's ids of the
--                         messages), shown (those of which the verdict is seen), woken (ms)
--   approvals     zset    id of such a call that is open -> ms when it was asked for
--   questions     zset    id of such a call of which a channel has to ask, or to show how it was
--                         settled -> ms at which a worker may do that
--   counters      hash    delayed, waiting, active, parked, completed, failed: messages;
--                         replies, delivered, undelivered: replies in outboxes, ever delivered, and
--                         in the failed list;
--                         taken: `queued` of the wake-up that was taken last
--                         taken_at: ms when that was
--                         pace: us from one taking to the next while wake-ups stand in line
--                         cancelled, discarded, forgotten: messages that were, ever;
--                         said: replies of `say` that joined the messages, ever;
--                         duplicates: adds of a message that was there, ever;
--                         takeovers: batches that were claimed from a dead worker, ever
--   metrics       hash    what was counted, ever (core/measures.py)
--   history       stream  samples of the metrics, one a minute (core/metric_samples.py)
--   operations    list    what operators did (store/ops/operation_log.py)
--   pausing       zset    thread id -> ms when it was paused or taken over; some may be over;
--                         '' -> ms, negative, since when it has those of earlier versions, too
--   paused        string  present while the whole queue is paused; ms since when, opaque here
--   events        stream  events of the thread: at (ms), type, data (JSON); exists only while the
--                         thread has subscribers
--   feed          stream  events of all threads: at, type, thread, data; exists only while it has
--                         readers
-- Keys of RQ
--   scheduled     zset    job id -> seconds
--   queue         list    job ids
--   queues        set     keys of queues
--   job           hash    one job
--
-- Fields of thread
--   state    pending, active, retrying or held (core/thread_state.py has the table); parked is
--            stored as held, with a mark (_parked.lua)
--   due      ms from which the thread may be claimed
--   wake     id of its outstanding wake-up
--   n        waiting messages
--   head     sequence number of the first entry of `pending`
--   first    ms when the oldest waiting message arrived
--   chars    characters of the messages that arrived since the last claim, if a limit ends windows
--   own_due  ms when the waiting messages are due by their own window; `never` (_quiet.lua) if
--            none of them wants a reply
--   quiet    1 if some of the waiting messages may want no reply, or be replies of `say`
--   pk       the counter that includes the waiting messages
--   bk       the counter that includes the batch
--   batch    id of the frozen batch
--   bn       its number of messages
--   phase    progress of the batch: frozen, sending, running, delivering
--   progress details of the phase, JSON, opaque here; while parked packed, in pieces: the others are
--            p1, p2 ... (_compact.lua)
--   token    the lease; absent while the thread is not leased
--   until    ms when the lease expires
--   deaths   leases that expired in this phase
--   last     token of the latest holder that released the thread
--   number   of the holder's last write
--   piece    number of the holder's last piece of text
--   past     tokens of earlier holders, newest first, a few of them
--   claimed  ms of the first claim of the batch
--   since    ms of the write of its lease, or of its back-off or grace period
--   was_due  ms when the batch was due then
--   paused   1 while this thread is paused; 2 while a person answers it (_person.lua)
--   taken_by the person that answers it; means nothing without `paused`
--   taken_at ms since when
--   spoken   sequence number of the latest reply of a person's that waited, and the person: messages
--            up to there are answered
--   queued   ms when its wake-up was enqueued
--   wish     what another process wants of the batch: a kind and the batch's id (_wish.lua)
--   revisions  how many edits and removals of its messages are to be made
--   wished   ms since when the batch is to be stopped
--   parked   end of the token of the worker that parked the batch (_parked.lua)
--   run      id of the run at the provider for which it is parked (_air.lua)
--   turn     ms of the poll of that run, if it had to wait for its place (_air.lua)
--   shut     marks of the calls of the parked batch that are settled (_parked.lua)
--   asks     of an earlier version: the batch's id, and the calls for which it waits
--   told     how much of the run's text has been published, JSON, opaque here

local function clock()
  if arg.now ~= '' then return tonumber(arg.now), 0 end
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000), t[2] % 1000
end
-- Every decision is made in whole ms; schedulers that sleep until the next due time need the rest.
local now, micros = clock()

-- A script writes few different times, and formatting one takes as long as a command.
local now_text, latest, latest_text
local function ms(number)
  if number == now then
    now_text = now_text or string.format('%.0f', now)
    return now_text
  end
  if number ~= latest then latest, latest_text = number, string.format('%.0f', number) end
  return latest_text
end

-- `fields` was read by the check before the script (store/scripts.py): those that it uses.
local function read_thread()
  local t = fields
  t.n = tonumber(t.n or 0)
  t.head = tonumber(t.head or 1)
  t.bn = tonumber(t.bn or 0)
  return t
end

local function add_to(counter, count)
  if type(redis.pcall('HINCRBY', key.counters, counter, count)) ~= 'number' then
    redis.log(redis.LOG_WARNING,
      key.counters .. ' held no number for ' .. counter .. '; it begins anew')
    redis.call('HSET', key.counters, counter, math.max(count, 0))
  end
end

-- Counters are maintained, never computed by a scan: each script that changes a message's state
-- moves the message from one counter to another.
local function book(from, to, count)
  if count == 0 or from == to then return end
  if from and from ~= '' then add_to(from, -count) end
  if to and to ~= '' then add_to(to, count) end
end

-- A worker that no longer holds the lease must not write. Tokens are compared for equality: a
-- counter would decrease when a replica is promoted.
local function holds(t) return t.token ~= nil and t.token == arg.token end

-- A holder numbers its writes and sends each after the previous one was answered. A write that
-- arrives after a later one is a late copy of a call that took effect: it must not reset the batch
-- to an earlier state. `highest`: the number of the last write, as it is stored.
local function is_late(highest) return tonumber(arg.number) <= tonumber(highest or '0') end
