-- Letters that wait for their topic, but whose key waits for an operator as well: the operator comes first.
-- Locks only the rows it changes. Index: dead_letter_key.
update outbox.dead_letter as letter set release = 'manual', reason = 'behind', error = 'an earlier event of this key was refused'
where release = 'auto' and exists (
  select from outbox.dead_letter as earlier
  where earlier.topic = letter.topic and earlier.key = letter.key and earlier.seq < letter.seq
    and earlier.release = 'manual')
