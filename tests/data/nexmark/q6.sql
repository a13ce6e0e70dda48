-- Nexmark's query 6 with its meaning and in valid SQL; queries/q6.sql holds the repository's own text, which no engine can bind: outside of
-- its inner subquery it names the subquery's tables `A` and `B`, its WHERE filters the number that its own SELECT computes, and it
-- writes a BIGINT seller to a VARCHAR. Equal prices are settled as in query 9: the earlier bid wins.

CREATE TABLE nexmark_q6 (
  seller BIGINT,
  avg_price  BIGINT
) WITH (
  'connector' = 'blackhole'
);

INSERT INTO nexmark_q6
SELECT
    Q.seller,
    AVG(Q.price) OVER
        (PARTITION BY Q.seller ORDER BY Q.`dateTime` ROWS BETWEEN 10 PRECEDING AND CURRENT ROW)
FROM (
    SELECT *
    FROM (SELECT A.id, A.seller, B.price, B.`dateTime`,
            ROW_NUMBER() OVER (PARTITION BY A.id, A.seller ORDER BY B.price DESC, B.`dateTime` ASC) AS rownum
        FROM auction AS A,
            bid AS B
        WHERE A.id = B.auction
            and B.`dateTime` between A.`dateTime` and A.expires)
    WHERE rownum <= 1
) AS Q;
