/**
 * Part of scripts/run.sh: ends with 0 if node_modules holds the packages of package-lock.json, and otherwise with 1. npm
 * writes what it installed into node_modules/.package-lock.json. Times of files say nothing, since Git sets them anew.
 */
import { readFileSync } from 'node:fs';

const packagesOf = (file) => JSON.parse(readFileSync(file, 'utf8')).packages;

function isInstalled() {
  const { '': _project, ...wanted } = packagesOf('package-lock.json');
  const installed = packagesOf('node_modules/.package-lock.json');
  const isEqual = (name) =>
    installed[name] === undefined
      ? // npm leaves out packages for other platforms.
        wanted[name].optional === true
      : installed[name].version === wanted[name].version && installed[name].integrity === wanted[name].integrity;
  return Object.keys(wanted).every(isEqual) && Object.keys(installed).every((name) => wanted[name] !== undefined);
}

try {
  process.exitCode = isInstalled() ? 0 : 1;
} catch {
  process.exitCode = 1; // one of the files is missing or cut off
}
