@echo off
rem Opens LoRA Workbench in the browser. What follows the name is handed on, such as --port 7861.
setlocal
cd /d "%~dp0"
for %%P in ("py -3.13" "py -3.12" "py -3.11" "py -3.10" "python" "python3") do (
  %%~P -c "import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))" >nul 2>nul && (
    %%~P launch.py %*
    if errorlevel 1 pause
    exit /b
  )
)
echo Python 3.10 to 3.13 was not found. Install it (https://www.python.org/downloads/) and start this again.
pause
exit /b 1
