-- What the order service keeps, beside its inbox and its outbox.
create table if not exists orders (
    order_id      text   primary key,
    consumer_id   text   not null,
    restaurant_id text   not null,
    order_total   bigint not null,
    deliver_to    text   not null,
    state         text   not null check (state in ('APPROVAL_PENDING', 'APPROVED', 'REJECTED')),
    -- Why it was rejected.
    reason        text,
    saga_type     text   not null,
    saga_id       uuid   not null
);

-- The orchestrator's memory: where each saga stands, and which command it waits for.
create table if not exists create_order_saga (
    saga_id         uuid        primary key,
    order_id        text        not null,
    state           text        not null,
    -- How many moves it has made.
    seq             bigint      not null,
    last_command_id uuid,
    ticket_id       text,
    -- Why it ends badly, if it does.
    reason          text,
    -- The order, as it was when it was placed.
    data            jsonb       not null,
    updated_at      timestamptz not null default now()
);
