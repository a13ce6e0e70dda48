// Runs SQL scripts on Apache Flink in one process and writes what each statement gave, one JSON object a line.
//
// usage: java -cp 'FLINK/lib/*:DIR' FlinkRun [-D KEY=VALUE ...] SCRIPT ...      writes SCRIPT.jsonl beside each script
//   {"statement":3,"columns":["a","n"],"types":["INT","BIGINT"],"rows":[["+I","1","2"],["-U","1","2"]]}
//   {"statement":4,"error":"…"}            {"statement":5,"cpu_s":1.5,"wall_s":0.9} for an INSERT
// Values are Flink's own texts, as its SQL client shows them; NULL is "<NULL>". A script ends at its first error.

import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.ResultKind;
import org.apache.flink.table.api.TableResult;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.table.api.internal.TableResultInternal;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.utils.print.RowDataToStringConverter;
import org.apache.flink.util.CloseableIterator;

public final class FlinkRun {
    private static final Pattern SET =
            Pattern.compile("(?is)SET\\s+'([^']*)'\\s*=\\s*'((?:[^']|'')*)'");

    public static void main(String[] args) throws Exception {
        Configuration configuration = new Configuration();
        List<String> scripts = new ArrayList<>();
        for (int i = 0; i < args.length; i++) {
            if (args[i].equals("-D")) {
                String pair = args[++i];
                int at = pair.indexOf('=');
                configuration.setString(pair.substring(0, at), pair.substring(at + 1));
            } else {
                scripts.add(args[i]);
            }
        }
        for (String script : scripts) {
            try (PrintStream out = new PrintStream(script + ".jsonl", StandardCharsets.UTF_8)) {
                script(configuration, Files.readString(Path.of(script)), out);
            }
        }
        System.exit(0);
    }

    private static void script(Configuration configuration, String text, PrintStream out) {
        StreamExecutionEnvironment environment =
                StreamExecutionEnvironment.getExecutionEnvironment(configuration);
        StreamTableEnvironment tables = StreamTableEnvironment.create(environment);
        int number = 0;
        for (String statement : split(text)) {
            number++;
            try {
                out.println(run(tables, number, statement));
            } catch (Throwable e) {
                out.println("{\"statement\":" + number + ",\"error\":" + quote(causes(e)) + "}");
                return;
            }
        }
    }

    private static String run(StreamTableEnvironment tables, int number, String statement) throws Exception {
        Matcher set = SET.matcher(statement);
        if (set.matches()) {
            tables.getConfig().set(set.group(1), set.group(2).replace("''", "'"));
            return "{\"statement\":" + number + "}";
        }
        long cpu = cpuNanos(), wall = System.nanoTime();
        TableResult result = tables.executeSql(statement);
        if (result.getResultKind() != ResultKind.SUCCESS_WITH_CONTENT) {
            return "{\"statement\":" + number + "}";
        }
        if (result.getJobClient().isPresent() && isInsert(statement)) {
            result.await();
            return "{\"statement\":" + number + ",\"cpu_s\":" + (cpuNanos() - cpu) / 1e9
                    + ",\"wall_s\":" + (System.nanoTime() - wall) / 1e9 + "}";
        }
        return rows(number, (TableResultInternal) result);
    }

    /** CPU time of this process. */
    private static long cpuNanos() {
        return ((com.sun.management.OperatingSystemMXBean) java.lang.management.ManagementFactory.getOperatingSystemMXBean())
                .getProcessCpuTime();
    }

    private static boolean isInsert(String statement) {
        String head = statement.stripLeading().toUpperCase();
        return head.startsWith("INSERT") || head.startsWith("EXECUTE") || head.startsWith("CREATE");
    }

    private static String rows(int number, TableResultInternal result) throws Exception {
        StringBuilder out = new StringBuilder("{\"statement\":" + number + ",\"columns\":[");
        List<String> columns = result.getResolvedSchema().getColumnNames();
        for (int i = 0; i < columns.size(); i++) {
            out.append(i == 0 ? "" : ",").append(quote(columns.get(i)));
        }
        out.append("],\"types\":[");
        for (int i = 0; i < columns.size(); i++) {
            String type = result.getResolvedSchema().getColumnDataTypes().get(i).getLogicalType().asSummaryString();
            out.append(i == 0 ? "" : ",").append(quote(type));
        }
        out.append("],\"rows\":[");
        RowDataToStringConverter converter = result.getRowDataToStringConverter();
        boolean first = true;
        try (CloseableIterator<RowData> it = result.collectInternal()) {
            while (it.hasNext()) {
                RowData row = it.next();
                out.append(first ? "[" : ",[").append(quote(row.getRowKind().shortString()));
                first = false;
                for (String cell : converter.convert(row)) {
                    out.append(',').append(quote(cell));
                }
                out.append(']');
            }
        }
        return out.append("]}").toString();
    }

    /** Statements of a script: they end with a semicolon outside of quotes and comments; BEGIN … END holds several. */
    private static List<String> split(String script) {
        List<String> statements = new ArrayList<>();
        StringBuilder open = new StringBuilder();
        for (int i = 0; i < script.length(); i++) {
            char c = script.charAt(i);
            if (c == '-' && script.startsWith("--", i)) {
                int end = script.indexOf('\n', i);
                i = end < 0 ? script.length() : end;
                open.append('\n');
            } else if (c == '/' && script.startsWith("/*", i) && !script.startsWith("/*+", i)) {
                i = script.indexOf("*/", i) + 1;
            } else if (c == '\'' || c == '`' || c == '"') {
                int end = script.indexOf(c, i + 1);
                end = end < 0 ? script.length() - 1 : end;
                open.append(script, i, end + 1);
                i = end;
            } else if (c == ';' && !isOpenSet(open)) {
                add(statements, open);
            } else {
                open.append(c);
            }
        }
        add(statements, open);
        return statements;
    }

    private static boolean isOpenSet(CharSequence open) {
        String text = open.toString().strip().toUpperCase();
        return text.startsWith("EXECUTE STATEMENT SET") && !text.endsWith("END");
    }

    private static void add(List<String> statements, StringBuilder open) {
        String text = open.toString().strip();
        if (!text.isEmpty()) {
            statements.add(text);
        }
        open.setLength(0);
    }

    private static String causes(Throwable e) {
        StringBuilder text = new StringBuilder();
        for (Throwable c = e; c != null; c = c.getCause()) {
            text.append(text.length() == 0 ? "" : "\n").append(c.getClass().getSimpleName()).append(": ").append(c.getMessage());
        }
        return text.toString();
    }

    private static String quote(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < 0x20) {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        return out.append('"').toString();
    }
}
