-- What the accounting service keeps, beside its inbox and its outbox.
create table if not exists accounts (
    consumer_id text    primary key,
    is_enabled  boolean not null
);

-- What has been heard of an order, in any order, and what became of its card. The join row of the choreography.
create table if not exists authorizations (
    order_id    text        primary key,
    consumer_id text,
    order_total bigint,
    consumer_ok boolean     not null default false,
    ticket_ok   boolean     not null default false,
    state       text        not null default 'WAITING'
        check (state in ('WAITING', 'REQUESTED', 'AUTHORIZED', 'DECLINED', 'CLOSED')),
    -- The message that completed it: what is to be answered when the card company has.
    origin      jsonb,
    attempts    integer     not null default 0,
    next_at     timestamptz not null default now()
);

create index if not exists authorizations_requested on authorizations (next_at) where state = 'REQUESTED';

insert into accounts (consumer_id, is_enabled)
select 'c-' || number, number <> 9 from generate_series(1, 9) number
on conflict do nothing;
