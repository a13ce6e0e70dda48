-- What the job writes into. For MySQL 8 and MariaDB: mysql -h 127.0.0.1 -P 23306 -u root < examples/kafka-to-mysql/schema.sql
CREATE DATABASE IF NOT EXISTS shop;
USE shop;

CREATE TABLE IF NOT EXISTS order_stats_minute (
  minute_start DATETIME(3) PRIMARY KEY, orders BIGINT NOT NULL, items BIGINT NOT NULL, revenue_cents BIGINT NOT NULL
);
CREATE TABLE IF NOT EXISTS order_stats_hour (
  hour_start DATETIME(3) PRIMARY KEY, orders BIGINT NOT NULL, customers BIGINT NOT NULL, revenue_cents BIGINT NOT NULL
);
CREATE TABLE IF NOT EXISTS click_stats_hour (
  hour_start DATETIME(3) PRIMARY KEY, clicks BIGINT NOT NULL, visitors BIGINT NOT NULL
);
CREATE TABLE IF NOT EXISTS product_stats_hour (
  hour_start DATETIME(3), product VARCHAR(20), orders BIGINT NOT NULL, revenue_cents BIGINT NOT NULL,
  PRIMARY KEY (hour_start, product)
);
-- The five products that sold best, for every hour.
CREATE TABLE IF NOT EXISTS top_products (
  hour_start DATETIME(3), place BIGINT, product VARCHAR(20) NOT NULL, orders BIGINT NOT NULL, revenue_cents BIGINT NOT NULL,
  PRIMARY KEY (hour_start, place)
);
-- No key on purpose: whatever is written twice is here twice.
CREATE TABLE IF NOT EXISTS large_orders (
  order_id BIGINT NOT NULL, user_id BIGINT NOT NULL, product VARCHAR(20), order_cents BIGINT NOT NULL, order_time DATETIME(3)
);
-- Orders that came after their hour had closed.
CREATE TABLE IF NOT EXISTS late_orders (
  order_id BIGINT NOT NULL, user_id BIGINT NOT NULL, product VARCHAR(20), order_cents BIGINT NOT NULL, order_time DATETIME(3)
);
