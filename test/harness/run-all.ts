import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** Runs the whole suite, and prints `N passed, N failed` alone on the last line. */

interface JsonReport {
  numPassedTests: number;
  numFailedTests: number;
  numFailedTestSuites: number;
  numPendingTests: number;
}

const directory = await mkdtemp(path.join(tmpdir(), 'lifeboat-tests-'));
const file = path.join(directory, 'report.json');
const args = [
  'node_modules/vitest/vitest.mjs',
  'run',
  '--reporter=default',
  '--reporter=json',
  `--outputFile=${file}`,
  ...process.argv.slice(2),
];
const status = await new Promise<number>((resolve) => {
  spawn(process.execPath, args, { stdio: 'inherit' }).on('close', (code) => resolve(code ?? 1));
});
let passed = 0;
let failed = 1;
try {
  const report = JSON.parse(await readFile(file, 'utf8')) as JsonReport;
  passed = report.numPassedTests;
  // A file that cannot be loaded has no failed test, but is a failure.
  failed = report.numFailedTests || (report.numFailedTestSuites > 0 || status !== 0 || passed === 0 ? 1 : 0);
} catch (error) {
  console.error('the test runner left no report', error);
}
await rm(directory, { recursive: true, force: true });
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 || status !== 0 ? 1 : 0;
