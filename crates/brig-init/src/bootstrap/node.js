// Loaded by a Node that was started before its code is known, ahead of the file that it was told to run: says that it is
// ready, waits, and then lets Node go on to that file. brig-init's warm.rs is the other side.
'use strict';
const { isMainThread } = require('worker_threads');
// Worker threads are given the same options, and so load this as well.
if (isMainThread) wait();
const own = process.execArgv.lastIndexOf('--require');
if (own >= 0) process.execArgv.splice(own, 2);
delete require.cache[__filename];

function wait() {
  const fs = require('fs');
  for (const name of ['assert', 'buffer', 'child_process', 'crypto', 'events', 'http', 'https', 'module', 'net', 'os',
    'path', 'perf_hooks', 'readline', 'stream', 'stream/promises', 'timers/promises', 'tty', 'url', 'util', 'vm',
    'worker_threads', 'zlib']) {
    try {
      require(name);
    } catch {
      // Not every build of Node has all of them.
    }
  }
  require('util').format('%s', 1, { a: [1] });
  fs.writeSync(3, 'r');
  const go = Buffer.alloc(1);
  if (fs.readSync(3, go, 0, 1, null) !== 1) process.reallyExit(0);
  fs.closeSync(3);
  const [cwd, , count, ...words] = fs.readFileSync(4, 'utf8').split('\0').slice(0, -1);
  fs.closeSync(4);
  process.chdir(cwd);
  process.argv.push(...words.slice(0, Number(count)));
  for (const name of Object.keys(process.env)) delete process.env[name];
  for (const variable of words.slice(Number(count))) {
    const at = variable.indexOf('=');
    process.env[variable.slice(0, at)] = variable.slice(at + 1);
  }
}
