-- How far the source has come, whoever leads it. Takes no lock.
select seen::text, page_upto::text, page_after, batch, checkpoint_next from outbox.relay
