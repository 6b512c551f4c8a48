// Reads SQL from standard input, runs it in a database in memory, and prints the
// rows of the last statement as JSON.
import { DuckDBInstance } from "@duckdb/node-api";
import { readFileSync } from "node:fs";

const instance = await DuckDBInstance.create(":memory:");
const connection = await instance.connect();
const reader = await connection.runAndReadAll(readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(reader.getRowObjectsJson()) + "\n");
