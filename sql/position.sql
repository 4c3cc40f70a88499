-- How far the leader of epoch $1 has come; no row if it does not lead any more. Takes no lock.
select seen::text, page_upto::text, page_after, batch, checkpoint_next, slot_seconds
from outbox.relay where epoch = $1 and lease_until > clock_timestamp()
