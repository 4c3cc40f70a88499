-- What the kitchen service keeps, beside its inbox and its outbox.
create table if not exists restaurants (
    restaurant_id text    primary key,
    is_open       boolean not null
);

-- A ticket's id is its order's. One that was cancelled before it came is here, too, and has no restaurant.
create table if not exists tickets (
    order_id      text  primary key,
    restaurant_id text,
    items         jsonb,
    state         text  not null check (state in ('CREATE_PENDING', 'AWAITING_ACCEPTANCE', 'CANCELLED'))
);

insert into restaurants (restaurant_id, is_open) values ('r-1', true), ('r-2', true), ('r-closed', false)
on conflict do nothing;
