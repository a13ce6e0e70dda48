-- Orders and clicks from Kafka; statistics per minute and per hour into MySQL, orders worth shipping at once into Kafka, all exactly once.
-- Kill it whenever you like and start it again: it goes on from its last checkpoint.
SET 'pipeline.name' = 'kafka-to-mysql';
SET 'execution.checkpointing.interval' = '5 s';
SET 'execution.checkpointing.dir' = 'out/kafka-to-mysql/checkpoints';
SET 'execution.checkpointing.externalized-checkpoint-retention' = 'RETAIN_ON_CANCELLATION';
SET 'execution.state-recovery.path' = 'latest';
SET 'restart-strategy.type' = 'exponential-delay';
SET 'parallelism.default' = '2';
SET 'table.local-time-zone' = 'UTC';
SET 'table.dml-sync' = 'true';

CREATE TABLE orders (
  order_id BIGINT, user_id BIGINT, product STRING, quantity INT, cents BIGINT, order_time TIMESTAMP(3),
  WATERMARK FOR order_time AS order_time - INTERVAL '30' SECOND
) WITH (
  'connector' = 'kafka', 'topic' = 'orders', 'properties.bootstrap.servers' = '127.0.0.1:29092',
  'properties.group.id' = 'kafka-to-mysql', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json'
);
CREATE TABLE clicks (
  user_id BIGINT, product STRING, click_time TIMESTAMP(3),
  WATERMARK FOR click_time AS click_time - INTERVAL '30' SECOND
) WITH (
  'connector' = 'kafka', 'topic' = 'clicks', 'properties.bootstrap.servers' = '127.0.0.1:29092',
  'properties.group.id' = 'kafka-to-mysql', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json'
);

-- The tables of schema.sql. With 'exactly-once' the rows between two checkpoints are applied with the checkpoint, in one transaction.
CREATE TABLE order_stats_minute (
  minute_start TIMESTAMP(3), orders BIGINT, items BIGINT, revenue_cents BIGINT, PRIMARY KEY (minute_start) NOT ENFORCED
) WITH (
  'connector' = 'jdbc', 'url' = 'jdbc:mysql://127.0.0.1:23306/shop', 'username' = 'root', 'table-name' = 'order_stats_minute',
  'sink.delivery-guarantee' = 'exactly-once'
);
CREATE TABLE order_stats_hour (
  hour_start TIMESTAMP(3), orders BIGINT, customers BIGINT, revenue_cents BIGINT, PRIMARY KEY (hour_start) NOT ENFORCED
) WITH (
  'connector' = 'jdbc', 'url' = 'jdbc:mysql://127.0.0.1:23306/shop', 'username' = 'root', 'table-name' = 'order_stats_hour',
  'sink.delivery-guarantee' = 'exactly-once'
);
CREATE TABLE click_stats_hour (
  hour_start TIMESTAMP(3), clicks BIGINT, visitors BIGINT, PRIMARY KEY (hour_start) NOT ENFORCED
) WITH (
  'connector' = 'jdbc', 'url' = 'jdbc:mysql://127.0.0.1:23306/shop', 'username' = 'root', 'table-name' = 'click_stats_hour',
  'sink.delivery-guarantee' = 'exactly-once'
);
CREATE TABLE product_stats_hour (
  hour_start TIMESTAMP(3), product STRING, orders BIGINT, revenue_cents BIGINT, PRIMARY KEY (hour_start, product) NOT ENFORCED
) WITH (
  'connector' = 'jdbc', 'url' = 'jdbc:mysql://127.0.0.1:23306/shop', 'username' = 'root', 'table-name' = 'product_stats_hour',
  'sink.delivery-guarantee' = 'exactly-once'
);
CREATE TABLE top_products (
  hour_start TIMESTAMP(3), place BIGINT, product STRING, orders BIGINT, revenue_cents BIGINT,
  PRIMARY KEY (hour_start, place) NOT ENFORCED
) WITH (
  'connector' = 'jdbc', 'url' = 'jdbc:mysql://127.0.0.1:23306/shop', 'username' = 'root', 'table-name' = 'top_products',
  'sink.delivery-guarantee' = 'exactly-once'
);
CREATE TABLE large_orders (
  order_id BIGINT, user_id BIGINT, product STRING, order_cents BIGINT, order_time TIMESTAMP(3)
) WITH (
  'connector' = 'jdbc', 'url' = 'jdbc:mysql://127.0.0.1:23306/shop', 'username' = 'root', 'table-name' = 'large_orders',
  'sink.delivery-guarantee' = 'exactly-once'
);
CREATE TABLE late_orders (
  order_id BIGINT, user_id BIGINT, product STRING, order_cents BIGINT, order_time TIMESTAMP(3)
) WITH (
  'connector' = 'jdbc', 'url' = 'jdbc:mysql://127.0.0.1:23306/shop', 'username' = 'root', 'table-name' = 'late_orders',
  'sink.delivery-guarantee' = 'exactly-once'
);

-- Read it with isolation.level = read_committed.
CREATE TABLE express_orders (
  order_id BIGINT, user_id BIGINT, product STRING, order_cents BIGINT, order_time TIMESTAMP(3)
) WITH (
  'connector' = 'kafka', 'topic' = 'express-orders', 'properties.bootstrap.servers' = '127.0.0.1:29092', 'format' = 'json',
  'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = 'kafka-to-mysql',
  'properties.transaction.timeout.ms' = '600000'
);

CREATE VIEW product_hours AS
SELECT window_start, window_end, product, COUNT(*) AS orders, SUM(quantity * cents) AS revenue_cents
FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(order_time), INTERVAL '1' HOUR))
GROUP BY window_start, window_end, product;

EXECUTE STATEMENT SET BEGIN
INSERT INTO order_stats_minute
SELECT window_start, COUNT(*), SUM(CAST(quantity AS BIGINT)), SUM(quantity * cents)
FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(order_time), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end;

INSERT INTO order_stats_hour
SELECT window_start, COUNT(*), COUNT(DISTINCT user_id), SUM(quantity * cents)
FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(order_time), INTERVAL '1' HOUR))
GROUP BY window_start, window_end;

INSERT INTO click_stats_hour
SELECT window_start, COUNT(*), COUNT(DISTINCT user_id)
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(click_time), INTERVAL '1' HOUR))
GROUP BY window_start, window_end;

INSERT INTO product_stats_hour SELECT window_start, product, orders, revenue_cents FROM product_hours;

INSERT INTO top_products
SELECT window_start, place, product, orders, revenue_cents
FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY revenue_cents DESC, product) AS place
  FROM product_hours
)
WHERE place <= 5;

INSERT INTO large_orders
SELECT order_id, user_id, product, quantity * cents, order_time FROM orders WHERE quantity * cents >= 40000;

-- Orders whose hour has closed: the windows above drop and count them, here they are kept.
INSERT INTO late_orders
SELECT order_id, user_id, product, quantity * cents, order_time FROM orders
WHERE FLOOR(order_time TO HOUR) + INTERVAL '1' HOUR <= CURRENT_WATERMARK(order_time) + INTERVAL '0.001' SECOND;

INSERT INTO express_orders
SELECT order_id, user_id, product, quantity * cents, order_time FROM orders WHERE quantity >= 3;
END;
