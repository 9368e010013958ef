# An app: says what it has written, and what it could not.
database=/app/db/litestream/production.sqlite3
name=$(hostname)
number=0
while :; do
  number=$((number + 1))
  if said=$(sqlite3 -cmd '.timeout 10000' "$database" "PRAGMA journal_mode=WAL; INSERT INTO t VALUES('$name-$number')" 2>&1); then
    echo "wrote $name-$number"
  else
    echo "failed: $said"
    sleep 1
  fi
done
