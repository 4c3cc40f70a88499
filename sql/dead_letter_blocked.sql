-- Whose later events have to queue. Takes no lock.
select topic, case when release = 'manual' then key end as key, release, min(reason) as reason
from outbox.dead_letter
where release = 'auto' or key is not null
group by 1, 2, 3
