// A sheet that does what Apps Script documents, as far as sheets.gs uses it, and calls of doPost.
const assert = require('node:assert');
let cells, maxColumns, maxRows, locked, slept;

const sheet = {
  getLastColumn: () => Math.max(0, ...cells.map(row => row.findLastIndex(v => v !== '') + 1)),
  getLastRow: () => cells.findLastIndex(row => row.some(v => v !== '')) + 1,
  getMaxColumns: () => maxColumns,
  getMaxRows: () => maxRows,
  insertColumnsAfter: (_, n) => { maxColumns += n; },
  insertRowsAfter: (_, n) => { maxRows += n; },
  getRange: (row, column, rows, columns) => {
    assert(row + rows - 1 <= maxRows && column + columns - 1 <= maxColumns, 'a range outside of the sheet');
    const at = what => Array.from({length: rows}, (_, r) => Array.from({length: columns}, (_, c) => what(cells[row - 1 + r], column - 1 + c)));
    return {
      getValues: () => at((row, column) => row?.[column]?.formula ? 'computed' : row?.[column] ?? ''),
      getFormulas: () => at((row, column) => row?.[column]?.formula ?? ''),
      setValues: values => {
        assert(locked, 'not locked');
        assert(values.length === rows && values.every(v => v.length === columns), 'another size');
        values.forEach((line, r) => line.forEach((v, c) => { (cells[row - 1 + r] ??= [])[column - 1 + c] = taken(v); }));
      },
    };
  },
};

// A cell takes a text that begins with an apostrophe as it is, without it, and reads any other.
function taken(v) {
  if (typeof v !== 'string') return v;
  if (v.startsWith("'")) return v.slice(1);
  if (v.startsWith('=')) return {formula: v};
  return v !== '' && !isNaN(v) ? Number(v) : v;
}

globalThis.SpreadsheetApp = {getActiveSpreadsheet: () => ({getSheets: () => [sheet]}), flush: () => {}};
globalThis.LockService = {getScriptLock: () => ({waitLock: () => { locked = true; }, releaseLock: () => { locked = false; }})};
globalThis.Utilities = {sleep: ms => { slept = ms; }};
globalThis.ContentService = {createTextOutput: text => text};
console.error = () => {};

const post = (row, key = 'A-LONG-RANDOM-WORD') => doPost({parameter: {key}, postData: {contents: typeof row === 'string' ? row : JSON.stringify(row)}});
const fresh = () => { cells = []; maxColumns = 3; maxRows = 2; locked = false; slept = 0; };

// Rows and columns, in a sheet that is too small.
fresh();
assert.equal(post({session: 'a', finished: '2026-01-15T10:00:26.000000Z', phone: "'+1231231234", 'q1 =1+1': '00123', score: 7, consent: false}), 'ok');
assert.deepEqual(cells[0], ['session', 'finished', 'phone', 'q1 =1+1', 'score', 'consent']);
assert.deepEqual(cells[1], ['a', new Date('2026-01-15T10:00:26Z'), '+1231231234', '00123', 7, false]);
post({session: 'b', name: '=1+1', more: null});
assert.deepEqual(cells[0].slice(6), ['name', 'more']);
assert.deepEqual(cells[2], ['b', '', '', '', '', '', '=1+1', '']);
assert.equal(cells.length, 3);

// The same session again is written over its row, and makes no column twice.
const before = JSON.stringify(cells);
post({session: 'a', finished: '2026-01-15T10:00:26.000000Z', phone: "'+1231231234", 'q1 =1+1': '00123', score: 7, consent: false});
assert.equal(JSON.stringify(cells.map(row => [...row, ...Array(8 - row.length).fill('')])), JSON.stringify(JSON.parse(before).map(row => [...row, ...Array(8 - row.length).fill('')])));
post({session: 'a', score: 8});
assert.equal(cells[1][4], 8);
assert.equal(cells.length, 3);

// Columns of the sheet's owner stay as they are, and an answer that was taken back goes.
fresh();
maxColumns = 6;
cells = [['Mine', 'session', 'Computed', 'name', 'q7 Old'], ['007', 'a', {formula: '=A2'}, 'Ada', 'yes']];
post({session: 'a', name: 'Eve'});
assert.deepEqual(cells[1], ['007', 'a', {formula: '=A2'}, 'Eve', '']);

// What fails gives no answer, so that it is tried again; a wrong key does not wait, and writes nothing.
fresh();
assert.throws(() => post('{'));
assert(slept > 60000 && !locked);
slept = 0;
assert.throws(() => post({session: 'a'}, 'another'), /wrong key/);
assert(slept === 0 && cells.length === 0);
console.log('ok');
