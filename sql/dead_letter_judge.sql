-- Letters were refused again, which fulfils a wish to try; one to drop them that came meanwhile stands.
-- $1 ids and $2 event ids, in pairs; $3 reason, $4 release, $5 error.
-- Locks only the rows it changes.
update outbox.dead_letter as letter set reason = $3, release = $4, error = $5, wish = nullif(wish, 'retry')
from unnest($1::bigint[], $2::uuid[]) as given (id, event_id)
where letter.id = given.id and letter.event_id = given.event_id
