-- How many dead letters there are. Takes no lock.
select count(*) filter (where release = 'auto') as auto, count(*) filter (where release = 'manual') as manual
from outbox.dead_letter
