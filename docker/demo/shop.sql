-- The demo's database: 56,200 rows that look like a shop's.
CREATE TYPE order_state AS ENUM ('open', 'paid', 'sent', 'returned');

CREATE TABLE customers (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL,
  email text NOT NULL UNIQUE,
  since timestamptz NOT NULL,
  notes jsonb NOT NULL DEFAULT '{}'
);
CREATE TABLE products (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  title text NOT NULL,
  price numeric(10, 2) NOT NULL CHECK (price > 0),
  picture text NOT NULL
);
CREATE TABLE orders (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  customer_id int NOT NULL REFERENCES customers,
  state order_state NOT NULL,
  ordered_at timestamptz NOT NULL
);
CREATE TABLE order_lines (
  order_id bigint NOT NULL REFERENCES orders ON DELETE CASCADE,
  product_id int NOT NULL REFERENCES products,
  amount int NOT NULL CHECK (amount > 0),
  PRIMARY KEY (order_id, product_id)
);
CREATE TABLE reviews (
  product_id int NOT NULL REFERENCES products,
  customer_id int NOT NULL REFERENCES customers,
  stars int NOT NULL CHECK (stars BETWEEN 1 AND 5),
  said text NOT NULL,
  PRIMARY KEY (product_id, customer_id)
);
CREATE INDEX orders_by_customer ON orders (customer_id, ordered_at);

CREATE VIEW turnover AS
  SELECT date_trunc('month', ordered_at) AS month, sum(price * amount) AS total
    FROM orders JOIN order_lines ON order_id = orders.id JOIN products ON product_id = products.id
   WHERE state <> 'returned'
   GROUP BY 1;

INSERT INTO customers (name, email, since, notes)
  SELECT (ARRAY['Zoë', 'Jürgen', '美咲', 'Олег', 'Ana', 'Siân'])[1 + i % 6] || ' ' || initcap(substr(md5(i::text), 1, 7)),
         'customer' || i || '@example.org',
         timestamptz '2019-03-01 08:00+00' + i * interval '17 hours',
         jsonb_build_object('newsletter', i % 3 = 0, 'said', 'it''s "fine" \ ' || i)
    FROM generate_series(1, 4000) i;
INSERT INTO products (title, price, picture)
  SELECT 'Print no. ' || i, 5 + i * 1.25, 'photos/' || i || '.png' FROM generate_series(1, 200) i;
INSERT INTO orders (customer_id, state, ordered_at)
  SELECT 1 + (i * 7919) % 4000, (enum_range(NULL::order_state))[1 + i % 4], timestamptz '2022-01-01 00:00+00' + i * interval '1 hour'
    FROM generate_series(1, 20000) i;
INSERT INTO order_lines
  SELECT i, 1 + (i * 13 + line * 71) % 200, 1 + (i + line) % 5
    FROM generate_series(1, 20000) i, generate_series(1, 2) line
   WHERE line = 1 OR i % 2 = 0;
INSERT INTO reviews
  SELECT 1 + i % 200, 1 + i, 1 + i % 5, 'Review no. ' || i FROM generate_series(1, 2000) i;
