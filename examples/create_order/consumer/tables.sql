-- What the consumer service keeps, beside its inbox and its outbox.
create table if not exists consumers (
    consumer_id text   primary key,
    -- The most that one order of this consumer may cost, in cents.
    order_limit bigint not null
);

create table if not exists receipts (
    order_id    text   primary key,
    consumer_id text   not null,
    total       bigint not null
);

-- Everybody in this example.
insert into consumers (consumer_id, order_limit)
select 'c-' || number, 10000 from generate_series(1, 9) number
on conflict do nothing;
