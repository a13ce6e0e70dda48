-- A day of a small shop into Kafka: 288,000 orders and 576,000 clicks, in about two and a half minutes.
-- Event time runs 600 times as fast as the clock; rows are up to 15 s out of order, and one order in a thousand is two hours late.
SET 'pipeline.name' = 'generate';
SET 'parallelism.default' = '1';
SET 'table.local-time-zone' = 'UTC';
SET 'table.dml-sync' = 'true';

CREATE TABLE order_numbers (id BIGINT, user_id INT, product INT, quantity INT, jitter_ms INT) WITH (
  'connector' = 'datagen', 'rows-per-second' = '2000', 'seed' = '1',
  'fields.id.kind' = 'sequence', 'fields.id.start' = '0', 'fields.id.end' = '287999',
  'fields.user_id.min' = '1', 'fields.user_id.max' = '20000',
  'fields.product.min' = '1', 'fields.product.max' = '200',
  'fields.quantity.min' = '1', 'fields.quantity.max' = '5',
  'fields.jitter_ms.min' = '0', 'fields.jitter_ms.max' = '15000'
);
CREATE TABLE click_numbers (id BIGINT, user_id INT, product INT, jitter_ms INT) WITH (
  'connector' = 'datagen', 'rows-per-second' = '4000', 'seed' = '2',
  'fields.id.kind' = 'sequence', 'fields.id.start' = '0', 'fields.id.end' = '575999',
  'fields.user_id.min' = '1', 'fields.user_id.max' = '50000',
  'fields.product.min' = '1', 'fields.product.max' = '200',
  'fields.jitter_ms.min' = '0', 'fields.jitter_ms.max' = '15000'
);

CREATE TABLE orders (
  order_id BIGINT, user_id BIGINT, product STRING, quantity INT, cents BIGINT, order_time TIMESTAMP(3)
) WITH (
  'connector' = 'kafka', 'topic' = 'orders', 'properties.bootstrap.servers' = '127.0.0.1:29092',
  'key.format' = 'raw', 'key.fields' = 'product', 'format' = 'json'
);
CREATE TABLE clicks (user_id BIGINT, product STRING, click_time TIMESTAMP(3)) WITH (
  'connector' = 'kafka', 'topic' = 'clicks', 'properties.bootstrap.servers' = '127.0.0.1:29092',
  'key.format' = 'raw', 'key.fields' = 'product', 'format' = 'json'
);

EXECUTE STATEMENT SET BEGIN
INSERT INTO orders
SELECT id, CAST(user_id AS BIGINT), CONCAT('p-', LPAD(CAST(product AS STRING), 3, '0')), quantity, CAST(199 + 50 * product AS BIGINT),
       CAST(TO_TIMESTAMP_LTZ(
         1767571200000 + id * 300 - jitter_ms - CASE WHEN MOD(id, 1000) = 999 THEN 7200000 ELSE 0 END, 3) AS TIMESTAMP(3))
FROM order_numbers;
INSERT INTO clicks
SELECT CAST(user_id AS BIGINT), CONCAT('p-', LPAD(CAST(product AS STRING), 3, '0')),
       CAST(TO_TIMESTAMP_LTZ(1767571200000 + id * 150 - jitter_ms, 3) AS TIMESTAMP(3))
FROM click_numbers;
END;
